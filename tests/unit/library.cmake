# SPDX-License-Identifier: Apache-2.0
# libdsm, one room at a time, against dsm_core: the same code as libdsm.so.
if(TARGET dsm_core)
  foreach(part fault_record latency page_table placement replacement read_ahead lock settings)
    add_unit_test(${part} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${part}.c LIBRARIES dsm_core)
  endforeach()
  add_unit_test(backing SOURCES ${CMAKE_CURRENT_LIST_DIR}/backing.c
                ${CMAKE_CURRENT_LIST_DIR}/backing_rig.c LIBRARIES dsm_core)
  add_unit_test(backing_direct SOURCES ${CMAKE_CURRENT_LIST_DIR}/backing_direct.c
                ${CMAKE_CURRENT_LIST_DIR}/backing_rig.c ${CMAKE_CURRENT_LIST_DIR}/lane_sock_rig.c
                ${CMAKE_CURRENT_LIST_DIR}/lane_exercise.c LIBRARIES dsm_core)
  foreach(part pager pager_failures pager_prefetch pager_fill pager_threads pager_segments pager_allocations trap_uffd)
    add_unit_test(${part} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${part}.c
                  ${CMAKE_CURRENT_LIST_DIR}/pager_rig.c ${CMAKE_CURRENT_LIST_DIR}/pager_server.c
                  LIBRARIES dsm_core)
    # Threads that fetch for themselves, and the workers that go on.
    add_test(NAME unit.${part}.direct COMMAND unit_${part})
    set_tests_properties(unit.${part}.direct PROPERTIES TIMEOUT 200 SKIP_RETURN_CODE 77
                         ENVIRONMENT DSM_DIRECT=on)
  endforeach()
  add_unit_test(pager_direct SOURCES ${CMAKE_CURRENT_LIST_DIR}/pager_direct.c
                ${CMAKE_CURRENT_LIST_DIR}/pager_rig.c ${CMAKE_CURRENT_LIST_DIR}/pager_server.c
                LIBRARIES dsm_core)
  # One instruction at a time: sanitizers have too many.
  add_unit_test(workers_stop SOURCES ${CMAKE_CURRENT_LIST_DIR}/workers_stop.c
                ${CMAKE_CURRENT_LIST_DIR}/pager_rig.c ${CMAKE_CURRENT_LIST_DIR}/pager_server.c
                LIBRARIES dsm_core)
  set_tests_properties(unit.workers_stop PROPERTIES LABELS plain-only)
  add_unit_test(owner SOURCES ${CMAKE_CURRENT_LIST_DIR}/owner.c LIBRARIES dsm_core)
  target_link_options(unit_owner PRIVATE -Wl,--wrap=control_image_commit,--wrap=control_image_abort,--wrap=control_reopen
                      -Wl,--wrap=control_close,--wrap=session_list_away,--wrap=session_set_away)
  add_unit_test(task_movable SOURCES ${CMAKE_CURRENT_LIST_DIR}/task_movable.c LIBRARIES dsm_core)
  target_link_options(unit_task_movable PRIVATE -Wl,--wrap=accept4)
  # Several stores, by Cedar's name for what they try.
  add_executable(vm_placement ${CMAKE_CURRENT_LIST_DIR}/pager_placement.c
                 ${CMAKE_CURRENT_LIST_DIR}/pager_rig.c ${CMAKE_CURRENT_LIST_DIR}/pager_server.c)
  target_link_libraries(vm_placement PRIVATE dsm_core PkgConfig::CMOCKA)
  add_test(NAME vm.SwapIn.placement.breaking COMMAND vm_placement breaking*)
  add_test(NAME vm.SwapIn.placement.side-by-side COMMAND vm_placement side_by_side*)
  add_test(NAME vm.SwapIn.placement.gathering COMMAND vm_placement gathering*)
  add_test(NAME vm.SwapIn.placement.failure COMMAND vm_placement failure*)
  add_test(NAME vm.Clean.placement COMMAND vm_placement cleaning*)
  set_tests_properties(vm.SwapIn.placement.breaking vm.SwapIn.placement.side-by-side vm.SwapIn.placement.gathering
                       vm.SwapIn.placement.failure vm.Clean.placement PROPERTIES SKIP_RETURN_CODE 77)
  # Where the kernel does not say which pages were stored into.
  foreach(part pager pager_threads)
    add_test(NAME unit.trap_sync.${part} COMMAND unit_${part})
    set_tests_properties(unit.trap_sync.${part} PROPERTIES TIMEOUT 200 SKIP_RETURN_CODE 77
                         ENVIRONMENT DSM_TRAP=uffd-sync)
  endforeach()
  # Threads that are late anywhere, at random.
  add_executable(unsteady ${CMAKE_CURRENT_LIST_DIR}/unsteady.c)
  foreach(part pager_threads pager_prefetch pager_segments backing)
    add_test(NAME unit.unsteady.${part} COMMAND unsteady 7 20000 $<TARGET_FILE:unit_${part}>)
    set_tests_properties(unit.unsteady.${part} PROPERTIES LABELS plain-only TIMEOUT 300 SKIP_RETURN_CODE 77)
  endforeach()
  add_test(NAME unit.unsteady.pager_threads.direct COMMAND unsteady 8 20000 $<TARGET_FILE:unit_pager_threads>)
  set_tests_properties(unit.unsteady.pager_threads.direct PROPERTIES LABELS plain-only TIMEOUT 300 SKIP_RETURN_CODE 77
                       ENVIRONMENT DSM_DIRECT=on)
  target_link_options(unit_pager_direct PRIVATE -Wl,--wrap=pager_fault_swap)
  target_link_options(unit_pager_failures PRIVATE -Wl,--wrap=backing_give)
  target_link_options(unit_pager_allocations PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
endif()
