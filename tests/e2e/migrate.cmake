# SPDX-License-Identifier: Apache-2.0
# What a process image needs to move, against a running dsmd.
if(NOT TARGET dsm_core)
  return()
endif()
set(migrate_folder ${CMAKE_CURRENT_LIST_DIR})
add_executable(hold_freeze ${migrate_folder}/hold_freeze.c ${migrate_folder}/hold_rig.c)
target_link_libraries(hold_freeze PRIVATE dsm_core Threads::Threads)
foreach(role traffic touch pinned stores)
  add_test(NAME vm.InitiateMigration.${role} COMMAND ${migrate_folder}/hold.sh hold_freeze ${role})
  set_tests_properties(vm.InitiateMigration.${role} PROPERTIES LABELS e2e TIMEOUT 200 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
endforeach()
set_property(TEST vm.InitiateMigration.traffic APPEND PROPERTY ENVIRONMENT DSM_LAUNDRY=off DSM_READ_AHEAD=0)
if(DSM_LONG_TESTS AND DSM_SANITIZE STREQUAL "")
  add_test(NAME vm.InitiateMigration.rate COMMAND ${migrate_folder}/hold.sh hold_freeze rate)
  set_tests_properties(vm.InitiateMigration.rate PROPERTIES LABELS "e2e;long" TIMEOUT 600 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock;HOLD_MIB=1024")
endif()

add_executable(hold_encap ${migrate_folder}/hold_encap.c ${migrate_folder}/hold_rig.c)
target_link_libraries(hold_encap PRIVATE dsm_core Threads::Threads)
foreach(role samples whole lost)
  set(script hold.sh)
  if(role STREQUAL "lost")
    set(script hold_paused.sh)
  endif()
  add_test(NAME vm.EncapState.${role} COMMAND ${migrate_folder}/${script} hold_encap ${role})
  set_tests_properties(vm.EncapState.${role} PROPERTIES LABELS e2e TIMEOUT 200 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
endforeach()
set_property(TEST vm.EncapState.samples APPEND PROPERTY ENVIRONMENT DSM_LAUNDRY=off DSM_READ_AHEAD=0)
set_property(TEST vm.EncapState.lost APPEND PROPERTY ENVIRONMENT DSM_FAULT_TIMEOUT=1500)

# The addresses of segments. Sanitizers have maps of their own of the addresses.
if(DSM_SANITIZE STREQUAL "")
  add_executable(hold_arena ${migrate_folder}/hold_arena.c ${migrate_folder}/hold_rig.c)
  target_link_libraries(hold_arena PRIVATE dsm Threads::Threads)
  target_include_directories(hold_arena PRIVATE ${CMAKE_SOURCE_DIR})
  foreach(role kept taken limited)
    add_test(NAME e2e.arena.${role} COMMAND ${migrate_folder}/hold.sh hold_arena ${role})
    set_tests_properties(e2e.arena.${role} PROPERTIES LABELS "e2e;plain-only" TIMEOUT 200 SKIP_RETURN_CODE 77
      ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
  endforeach()
endif()
