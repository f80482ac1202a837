# SPDX-License-Identifier: Apache-2.0
# What the library's manual pages show, tried. A sanitized library would need the sanitizer's flags in it.
if(TARGET dsm AND TARGET dsmd AND DSM_SANITIZE STREQUAL "" AND NOT DSM_FUZZ)
  add_test(NAME e2e.manual_examples COMMAND ${CMAKE_CURRENT_LIST_DIR}/manual_examples.sh)
  set_tests_properties(e2e.manual_examples PROPERTIES
    LABELS e2e TIMEOUT 300 SKIP_RETURN_CODE 77 RESOURCE_LOCK embedded ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
endif()
