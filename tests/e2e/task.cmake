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
foreach(program task_hop task_hop_other) # the same, and yet another binary
  add_executable(${program} ${CMAKE_CURRENT_LIST_DIR}/task_hop.c ${CMAKE_CURRENT_LIST_DIR}/hold_rig.c)
  target_link_libraries(${program} PRIVATE dsm m)
  set_task_program(${program})
endforeach()
target_compile_definitions(task_hop_other PRIVATE TASK_HOP_DEPTH=6)
add_executable(solver ${CMAKE_SOURCE_DIR}/tests/programs/solver.c)
target_link_libraries(solver PRIVATE dsm Threads::Threads)
set_task_program(solver)
add_test(NAME e2e.task.hosts COMMAND ${CMAKE_CURRENT_LIST_DIR}/task_hosts.sh 150 20000)
set_tests_properties(e2e.task.hosts PROPERTIES LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77
  ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
add_test(NAME e2e.task.agents COMMAND ${CMAKE_CURRENT_LIST_DIR}/task_agents.sh)
set_tests_properties(e2e.task.agents PROPERTIES LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77
  ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
add_executable(task_steps ${CMAKE_CURRENT_LIST_DIR}/task_steps.c ${CMAKE_CURRENT_LIST_DIR}/hold_rig.c)
target_link_libraries(task_steps PRIVATE dsm m Threads::Threads)
set_task_program(task_steps)
function(add_steps_test name label timeout) # add_steps_test(NAME LABEL TIMEOUT ARGUMENT...)
  add_test(NAME e2e.task.steps.${name} COMMAND ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/task_steps.sh ${ARGN})
  set_tests_properties(e2e.task.steps.${name} PROPERTIES LABELS "e2e;${label}" TIMEOUT ${timeout} SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
endfunction()
foreach(what kill server cut answer decided error)
  add_steps_test(${what} plain-only 200 ${what} 1)
  if(DSM_LONG_TESTS)
    add_steps_test(${what}.long long 1800 ${what} 20)
  endif()
endforeach()
add_steps_test(hops plain-only 200 hops 50)
if(DSM_LONG_TESTS)
  add_steps_test(hops.long long 1800 hops 1000)
endif()
foreach(behaviour hop refused replay late binary aborted robbed right many)
  add_test(NAME e2e.task.${behaviour} COMMAND ${CMAKE_CURRENT_LIST_DIR}/task_hop.sh ${behaviour})
  set_tests_properties(e2e.task.${behaviour} PROPERTIES LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
endforeach()
# What lies where the heap must go has to get there: nothing is kept free.
set_property(TEST e2e.task.refused APPEND PROPERTY ENVIRONMENT DSM_ARENA=0)
# Segments of every type in one image.
add_executable(task_parts ${CMAKE_CURRENT_LIST_DIR}/task_parts.c ${CMAKE_CURRENT_LIST_DIR}/hold_rig.c)
target_link_libraries(task_parts PRIVATE dsm_core Threads::Threads)
set_task_program(task_parts)
foreach(behaviour segments probes sharers once given-up refused)
  add_test(NAME vm.Migrate.${behaviour} COMMAND ${CMAKE_CURRENT_LIST_DIR}/task_parts.sh ${behaviour})
  set_tests_properties(vm.Migrate.${behaviour} PROPERTIES LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
endforeach()
add_test(NAME vm.Migrate.closing COMMAND ${CMAKE_CURRENT_LIST_DIR}/hold_paused.sh task_parts closing)
set_tests_properties(vm.Migrate.closing PROPERTIES LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77
  ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock;DSM_LAUNDRY=off")
set_property(TEST vm.Migrate.segments vm.Migrate.probes APPEND PROPERTY ENVIRONMENT DSM_LAUNDRY=off DSM_READ_AHEAD=0)
set_tests_properties(vm.Migrate.probes PROPERTIES RESOURCE_LOCK probes) # others mount what bpftrace needs, and unmount it
# How tasks end. What is freed is overwritten, so that who reads it reads something else.
add_executable(task_ends ${CMAKE_CURRENT_LIST_DIR}/task_ends.c ${CMAKE_CURRENT_LIST_DIR}/hold_rig.c)
target_link_libraries(task_ends PRIVATE dsm_core Threads::Threads)
set_task_program(task_ends)
add_test(NAME e2e.task.ends.closing COMMAND ${CMAKE_CURRENT_LIST_DIR}/hold_paused.sh task_ends closing)
foreach(behaviour left closed code)
  add_test(NAME e2e.task.ends.${behaviour} COMMAND ${CMAKE_CURRENT_LIST_DIR}/task_ends.sh ${behaviour})
endforeach()
set_tests_properties(e2e.task.ends.closing e2e.task.ends.left e2e.task.ends.closed e2e.task.ends.code PROPERTIES
  LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77
  ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock;DSM_LAUNDRY=off;GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.perturb=165")
# For how long a computation stands still when it moves, and what is written; beside CRIU where that works.
add_executable(moving_load ${CMAKE_CURRENT_LIST_DIR}/moving_load.c ${CMAKE_CURRENT_LIST_DIR}/hold_rig.c)
target_link_libraries(moving_load PRIVATE dsm Threads::Threads)
set_task_program(moving_load)
if(DSM_LONG_TESTS)
  add_test(NAME e2e.task.beside-criu COMMAND ${CMAKE_CURRENT_LIST_DIR}/beside_criu.sh)
  set_tests_properties(e2e.task.beside-criu PROPERTIES LABELS "e2e;long;plain-only" TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
endif()
