# SPDX-License-Identifier: Apache-2.0
# The manual pages against the programs; skipped where there is no scdoc.
foreach(check manuals manuals_selftest)
  add_test(NAME check.${check} COMMAND ${CMAKE_CURRENT_LIST_DIR}/${check}.sh ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
  set_tests_properties(check.${check} PROPERTIES LABELS "check;plain-only" TIMEOUT 120 SKIP_RETURN_CODE 77)
endforeach()
