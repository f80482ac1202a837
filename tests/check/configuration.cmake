# SPDX-License-Identifier: Apache-2.0
# The example configuration against the tables of settings, and the service against systemd's own judgement.
foreach(check examples unit configuration_selftest prometheus)
  add_test(NAME check.${check} COMMAND ${CMAKE_CURRENT_LIST_DIR}/${check}.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  set_tests_properties(check.${check} PROPERTIES LABELS "check;plain-only" TIMEOUT 120 SKIP_RETURN_CODE 77)
endforeach()
