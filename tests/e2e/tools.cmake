# SPDX-License-Identifier: Apache-2.0
# dsmctl and dsmstat against a running dsmd, as an unprivileged user.
if(NOT TARGET dsmstat OR NOT TARGET dsm)
  return()
endif()
add_executable(tools_client ${CMAKE_CURRENT_LIST_DIR}/tools_client.c)
target_link_libraries(tools_client PRIVATE dsm)

foreach(behaviour ping segments create delete stat stat_page stat_users stat_end stat_server)
  add_client_test(tools.${behaviour} 300 COMMAND tools_${behaviour}.sh)
endforeach()
# These need no lane to a server, or always the same.
foreach(behaviour agent check usage)
  add_test(NAME e2e.tools.${behaviour} COMMAND ${CMAKE_CURRENT_LIST_DIR}/tools_${behaviour}.sh)
  set_tests_properties(e2e.tools.${behaviour} PROPERTIES
    LABELS e2e TIMEOUT 120 SKIP_RETURN_CODE 77 ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
