# SPDX-License-Identifier: Apache-2.0
# The programs at work against a dsmd. Each runs with both kinds of lanes for faults.
function(add_client_test name seconds) # add_client_test(name TIMEOUT [LABELS ...] COMMAND script.sh ARGUMENT...)
  cmake_parse_arguments(client "" "" "LABELS;COMMAND" ${ARGN})
  list(POP_FRONT client_COMMAND script)
  foreach(lanes sock grpc)
    set(test e2e.${name}.${lanes})
    add_test(NAME ${test} COMMAND ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${script} ${client_COMMAND})
    set_tests_properties(${test} PROPERTIES
      LABELS "e2e;${client_LABELS}" TIMEOUT ${seconds} SKIP_RETURN_CODE 77
      ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=${lanes}")
  endforeach()
endfunction()

if(DSM_SANITIZE STREQUAL "")
  add_client_test(pagecheck 300 COMMAND pagecheck.sh 30)
  add_client_test(pagecheck_killed 300 COMMAND pagecheck_killed.sh 30 3)
  # The label brings what sanitizers' trees have not into a full run's uffd/ (tests/run). Not gups: it takes the longest, and what it
  # does e2e.gups_fill and e2e.cache_bound do.
  add_client_test(gups 600 COMMAND gups.sh --updates 100000)
  add_client_test(cache_bound 300 LABELS plain-only COMMAND cache_bound.sh 8)
  # Hardly any updates: what is tried is the first, sequential fill, when read-ahead and stores meet.
  add_client_test(gups_fill 300 LABELS plain-only COMMAND gups.sh --table 128M --cache 8M --updates 100)
  add_client_test(pagerank 900 LABELS plain-only COMMAND pagerank.sh)
else() # everything is slower here, and what counts is the first race or overrun
  add_client_test(pagecheck 300 COMMAND pagecheck.sh 5)
  add_client_test(pagecheck_killed 300 COMMAND pagecheck_killed.sh 6 2)
endif()
add_client_test(pagerank_sample 300 COMMAND pagerank.sh ${CMAKE_SOURCE_DIR}/tests/programs/sample-index.txt)

add_client_test(upgrade 200 COMMAND upgrade.sh 20)
add_client_test(bfs 300 COMMAND program.sh bfs --scale 13 --roots 4)

# Those whose faults are like any others' once they are there: one kind of lanes does. In the plain tree only: neither OpenMP's
# runtime nor MPI is made for sanitizers.
function(add_program_test name) # add_program_test(name script.sh ARGUMENT...)
  list(POP_FRONT ARGN script)
  add_test(NAME e2e.${name} COMMAND ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${script} ${ARGN})
  set_tests_properties(e2e.${name} PROPERTIES LABELS "e2e;plain-only" TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
endfunction()
if(DSM_SANITIZE STREQUAL "")
  add_program_test(bfs_larger program.sh bfs --scale 15 --roots 3 --cache 512K)
  add_program_test(bfs_spoiled bfs_spoiled.sh)
  add_program_test(stream program.sh stream --array 32M --cache 8M)
  add_program_test(sort program.sh sort --array 12M --cache 3M --threads 3)
  add_program_test(pagerank_kronecker program.sh pagerank --scale 14 --cache 1M --iterations 3 --hints)
  add_program_test(openmp program.sh stencil)
  add_program_test(mpi.2 mpi.sh 2)
  add_program_test(mpi.4 mpi.sh 4)
  add_program_test(mpi.unpinned mpi.sh unpinned)
endif()

option(DSM_LONG_TESTS "Register the tests that take 10 minutes" OFF)
if(DSM_LONG_TESTS AND DSM_SANITIZE STREQUAL "")
  add_client_test(pagecheck_long 1900 LABELS long COMMAND pagecheck.sh 600)
  add_client_test(pagecheck_killed_long 1900 LABELS long COMMAND pagecheck_killed.sh 600 3)
endif()
