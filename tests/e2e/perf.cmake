# SPDX-License-Identifier: Apache-2.0
# dsmperf at its smallest: the shape of what it prints, for each measurement. Sanitizers have handlers of their own for the raw traps.
if(NOT TARGET dsmperf OR NOT TARGET dsmd)
  return()
endif()
set(perf_folder ${CMAKE_CURRENT_LIST_DIR})

function(add_perf_test name) # add_perf_test(name subcommand [option...])
  add_test(NAME e2e.perf.${name} COMMAND ${perf_folder}/perf.sh ${ARGN})
  set_tests_properties(e2e.perf.${name} PROPERTIES
    LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77 ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
endfunction()

add_test(NAME e2e.perf.killed COMMAND ${perf_folder}/perf_killed.sh folder)
add_test(NAME e2e.perf.killed.swap COMMAND ${perf_folder}/perf_killed.sh swap)
set_tests_properties(e2e.perf.killed e2e.perf.killed.swap PROPERTIES
  LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77 ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")

add_perf_test(limit limit)
add_perf_test(fault.mprotect fault --trap mprotect --disk-size 16)
add_perf_test(fault.uffd fault --trap uffd --write --disk-size 16)
add_perf_test(scan scan)
add_perf_test(clean clean)
add_perf_test(threads threads --most 2 --window 20)
add_perf_test(clients clients --most 2 --window 20)
add_perf_test(apps apps --size 32 --apps sort --local 50)
