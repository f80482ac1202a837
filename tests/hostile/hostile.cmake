# SPDX-License-Identifier: Apache-2.0
# What the bad input list promises, case by case: see README.md here.
if(TARGET pagecheck AND TARGET dsmctl AND TARGET dsmd)
  set(hostile_folder ${CMAKE_CURRENT_LIST_DIR})
  function(add_hostile_test name seconds script) # add_hostile_test(name TIMEOUT script.sh ARGUMENT...)
    add_test(NAME hostile.${name} COMMAND ${hostile_folder}/${script} ${ARGN})
    set_tests_properties(hostile.${name} PROPERTIES LABELS e2e TIMEOUT ${seconds} SKIP_RETURN_CODE 77
      ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
  endfunction()
  add_hostile_test(table 60 table.sh)
  set_tests_properties(hostile.table PROPERTIES LABELS "check;plain-only")
  foreach(group strangers records requests streams)
    add_hostile_test(${group} 300 hostile.sh ${group})
  endforeach()
endif()
