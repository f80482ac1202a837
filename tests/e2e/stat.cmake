# SPDX-License-Identifier: Apache-2.0
# dsmstat's probes, as root, on running programs. In the plain tree: what is tried is the kernel's side and how the two meet.
if(NOT TARGET dsmstat OR NOT TARGET dsm OR NOT DSM_SANITIZE STREQUAL "")
  return()
endif()
find_package(Threads REQUIRED)
add_executable(stat_firing ${CMAKE_CURRENT_LIST_DIR}/stat_firing.c)
target_link_libraries(stat_firing PRIVATE dsm_core)
add_executable(stat_exact ${CMAKE_CURRENT_LIST_DIR}/stat_exact.c)
target_link_libraries(stat_exact PRIVATE dsm Threads::Threads)

add_library(stat_slow SHARED ${CMAKE_CURRENT_LIST_DIR}/stat_slow.c)

function(add_stat_test name script) # add_stat_test(name script.sh ARGUMENT...)
  foreach(lanes ${stat_lanes})
    set(test stat.bpf.${name}.${lanes})
    add_test(NAME ${test} COMMAND ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${script} ${ARGN})
    set_tests_properties(${test} PROPERTIES LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77 RESOURCE_LOCK probes # semaphores are looked at
      ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=${lanes}")
  endforeach()
endfunction()
set(stat_lanes sock grpc)
add_stat_test(exact stat_exact.sh 62500 1000)
set(stat_lanes sock)
add_stat_test(fired stat_fired.sh)
add_stat_test(views stat_views.sh)
add_stat_test(killed stat_killed.sh)
add_stat_test(rights stat_rights.sh)
add_stat_test(replaced stat_replaced.sh)
add_stat_test(bpftrace stat_bpftrace.sh)
foreach(part nothing server wire wake crowd)
  add_stat_test(why.${part} stat_why.sh ${part})
  set_tests_properties(stat.bpf.why.${part}.sock PROPERTIES RUN_SERIAL ON) # two clocks are compared
endforeach()
