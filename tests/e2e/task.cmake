# SPDX-License-Identifier: Apache-2.0
# Tasks. Their programs lie at fixed addresses, and sanitizers know of no other stack than the thread's.
if(NOT TARGET dsm_core OR NOT DSM_SANITIZE STREQUAL "")
  return()
endif()
function(set_task_program name) # code at fixed addresses, and frames that are guarded
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE -fno-pie -fstack-protector-all)
  target_link_options(${name} PRIVATE -no-pie -Wl,--build-id=sha1)
endfunction()
add_executable(task_hop ${CMAKE_CURRENT_LIST_DIR}/task_hop.c ${CMAKE_CURRENT_LIST_DIR}/hold_rig.c)
target_link_libraries(task_hop PRIVATE dsm_core m)
set_task_program(task_hop)
add_test(NAME e2e.task.hop COMMAND ${CMAKE_CURRENT_LIST_DIR}/task_hop.sh 4)
set_tests_properties(e2e.task.hop PROPERTIES LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77
  ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
