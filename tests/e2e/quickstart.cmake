# SPDX-License-Identifier: Apache-2.0
# The first of the two commands, on the plain tree, which it builds itself.
if(TARGET dsm AND TARGET dsmd AND DSM_SANITIZE STREQUAL "" AND NOT DSM_FUZZ)
  add_test(NAME e2e.quickstart COMMAND ${CMAKE_CURRENT_LIST_DIR}/quickstart.sh)
  set_tests_properties(e2e.quickstart PROPERTIES
    LABELS "e2e;plain-only" TIMEOUT 300 SKIP_RETURN_CODE 77 RESOURCE_LOCK embedded
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
endif()
