# SPDX-License-Identifier: Apache-2.0
# The rows of Cedar's operations, each by its name there, through the public interface against a dsmd.
if(NOT TARGET dsm)
  return()
endif()
set(vm_folder ${CMAKE_CURRENT_LIST_DIR})
add_executable(hold_states ${vm_folder}/hold_states.c ${vm_folder}/hold_rig.c)
target_link_libraries(hold_states PRIVATE dsm Threads::Threads)

function(add_vm_test name script) # add_vm_test(name script.sh ARGUMENT...)
  add_test(NAME vm.${name} COMMAND ${vm_folder}/${script} ${ARGN})
  set_tests_properties(vm.${name} PROPERTIES LABELS e2e TIMEOUT 200 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
endfunction()
add_vm_test(SetDataState.undefined hold.sh hold_states undefined)
add_vm_test(SetDataState.unchanged-changed hold.sh hold_states marks)
add_vm_test(SetDataState.refused hold.sh hold_states refused)
add_vm_test(Pin.Unpin hold.sh hold_states pin)
add_vm_test(SwapIn.kill-pin-without-server hold_paused.sh hold_states kill-pin)
if(DSM_SANITIZE STREQUAL "") # sanitizers have a handler of SIGSEGV
  add_vm_test(SetDataState.none vm_none.sh)
  add_vm_test(MakeReadOnly.MakeReadWrite hold.sh hold_states read-only)
endif()

add_executable(hold_calls ${vm_folder}/hold_calls.c ${vm_folder}/hold_rig.c)
target_link_libraries(hold_calls PRIVATE dsm Threads::Threads)
foreach(role file edge pipe datagram refused)
  add_vm_test(SystemCalls.${role} hold.sh hold_calls ${role})
endforeach()
if(DSM_SANITIZE STREQUAL "") # sanitizers look at what system calls are given
  add_vm_test(SystemCalls.unpinned hold.sh hold_calls unpinned)
  add_vm_test(SystemCalls.madvise hold.sh hold_calls madvise)
endif()

add_executable(hold_laundry ${vm_folder}/hold_laundry.c ${vm_folder}/hold_rig.c)
target_link_libraries(hold_laundry PRIVATE dsm Threads::Threads)
add_vm_test(Laundry.failed vm_laundry.sh)
if(DSM_SANITIZE STREQUAL "")
  add_vm_test(Laundry.few-dirty-victims hold.sh hold_laundry rate)
endif()

add_executable(hold_maps ${vm_folder}/hold_maps.c ${vm_folder}/hold_rig.c)
target_link_libraries(hold_maps PRIVATE dsm Threads::Threads)
if(DSM_SANITIZE STREQUAL "") # sanitizers have mappings of their own
  add_vm_test(MapBudget.lowered hold.sh hold_maps budget)
  set_property(TEST vm.MapBudget.lowered APPEND PROPERTY ENVIRONMENT DSM_MAP_LIMIT=7000)
  add_vm_test(MapBudget.used-up hold.sh hold_maps used-up)
endif()
