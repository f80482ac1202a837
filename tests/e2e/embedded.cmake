# SPDX-License-Identifier: Apache-2.0
# Servers of a program's own: they serve, they end with it, and nothing is left. And memory from dsm_alloc().
# One at a time, in all configurations: they look for what a server leaves in /dev/shm, where others' stores may lie.
if(TARGET dsm AND TARGET dsmd)
  add_executable(e2e_embedded ${CMAKE_CURRENT_LIST_DIR}/embedded.c)
  target_link_libraries(e2e_embedded PRIVATE dsm)
  foreach(role exit kill interrupt close exec fork fork-exec lost)
    foreach(how plain user directory)
      add_test(NAME e2e.embedded.${role}.${how} COMMAND ${CMAKE_CURRENT_LIST_DIR}/embedded.sh ${how} ${role})
      set_tests_properties(e2e.embedded.${role}.${how} PROPERTIES
        LABELS e2e TIMEOUT 120 SKIP_RETURN_CODE 77 RESOURCE_LOCK embedded
        ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
    endforeach()
  endforeach()
  add_test(NAME e2e.embedded.errors COMMAND ${CMAKE_CURRENT_LIST_DIR}/embedded_errors.sh)
  set_tests_properties(e2e.embedded.errors PROPERTIES
    LABELS e2e TIMEOUT 120 SKIP_RETURN_CODE 77 RESOURCE_LOCK embedded
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")

  add_executable(e2e_alloc ${CMAKE_CURRENT_LIST_DIR}/alloc.c)
  target_link_libraries(e2e_alloc PRIVATE dsm Threads::Threads PkgConfig::CMOCKA)
  foreach(lanes sock grpc)
    add_test(NAME e2e.alloc.${lanes} COMMAND e2e_alloc)
    set_tests_properties(e2e.alloc.${lanes} PROPERTIES
      LABELS e2e TIMEOUT 120 RESOURCE_LOCK embedded ENVIRONMENT "DSM_FAULT_LANES=${lanes}")
  endforeach()
  add_executable(e2e_alloc_hold ${CMAKE_CURRENT_LIST_DIR}/alloc_hold.c)
  target_link_libraries(e2e_alloc_hold PRIVATE dsm)
  add_client_test(alloc_remote 120 COMMAND alloc_remote.sh)
  if(DSM_SANITIZE STREQUAL "")
    add_test(NAME e2e.readme COMMAND ${CMAKE_CURRENT_LIST_DIR}/readme.sh)
    set_tests_properties(e2e.readme PROPERTIES
      LABELS e2e TIMEOUT 200 SKIP_RETURN_CODE 77 RESOURCE_LOCK embedded ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
  endif()
endif()
