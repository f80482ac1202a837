# SPDX-License-Identifier: Apache-2.0
# dsmd as an operator meets it: configuration, refusals at the start, the service manager; and a user's first mistakes.
if(TARGET dsmd AND TARGET dsm)
  add_executable(messages ${CMAKE_CURRENT_LIST_DIR}/messages.c)
  target_link_libraries(messages PRIVATE dsm)
  foreach(test config ipv6 messages service startup)
    add_test(NAME e2e.${test} COMMAND ${CMAKE_CURRENT_LIST_DIR}/${test}.sh)
    set_tests_properties(e2e.${test} PROPERTIES LABELS e2e TIMEOUT 600 SKIP_RETURN_CODE 77
      ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
  endforeach()
endif()
