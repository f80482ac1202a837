# SPDX-License-Identifier: Apache-2.0
# Real faults on real processes: a schedule drawn from a seed, and partitions by name.
if(NOT TARGET dsm OR NOT DSM_SANITIZE STREQUAL "")
  return()
endif()
set(faults_folder ${CMAKE_CURRENT_LIST_DIR})
add_executable(spoil_proxy ${faults_folder}/spoil_proxy.c)

function(add_faults_test name lanes timeout) # add_faults_test(name lanes timeout SEED OPERATIONS SECONDS READS)
  add_test(NAME ${name}.${lanes} COMMAND ${faults_folder}/faults.sh ${ARGN})
  set_tests_properties(${name}.${lanes} PROPERTIES LABELS "e2e;plain-only" TIMEOUT ${timeout} SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=${lanes}")
endfunction()
add_faults_test(e2e.faults.1 sock 600 1 60000 20 500000)
add_faults_test(e2e.faults.2 grpc 600 2 60000 20 500000)
if(DSM_LONG_TESTS)
  add_faults_test(long.faults.10M sock 14000 3 1200000 7200 10000000)
  set_tests_properties(long.faults.10M.sock PROPERTIES LABELS long)
endif()

foreach(way to-server to-client both)
  add_test(NAME e2e.faults.partition.${way} COMMAND ${faults_folder}/hold_partition.sh hold_timeout handled ${way})
  set_tests_properties(e2e.faults.partition.${way} PROPERTIES LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock;DSM_FAULT_TIMEOUT=3000")
endforeach()

# Requests and answers that are lost with their connections.
add_executable(hold_once ${faults_folder}/hold_once.c ${faults_folder}/hold_rig.c)
target_link_libraries(hold_once PRIVATE dsm)
add_test(NAME e2e.faults.once COMMAND ${faults_folder}/hold_spoiled.sh hold_once all 7000)
set_tests_properties(e2e.faults.once PROPERTIES LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77
  ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock;DSM_FAULT_TIMEOUT=0")
