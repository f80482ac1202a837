# SPDX-License-Identifier: Apache-2.0
# What the bad input list promises, case by case: see README.md here.
if(TARGET dsmctl AND TARGET dsmd) # pagecheck is made by a folder that comes later
  set(hostile_folder ${CMAKE_CURRENT_LIST_DIR})
  function(add_hostile_test name seconds script) # add_hostile_test(name TIMEOUT script.sh ARGUMENT...)
    add_test(NAME hostile.${name} COMMAND ${hostile_folder}/${script} ${ARGN})
    set_tests_properties(hostile.${name} PROPERTIES LABELS e2e TIMEOUT ${seconds} SKIP_RETURN_CODE 77
      ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock")
  endfunction()
  add_hostile_test(table 60 table.sh)
  set_tests_properties(hostile.table PROPERTIES LABELS "check;plain-only")
  add_hostile_test(limits 60 limits.sh)
  set_tests_properties(hostile.limits PROPERTIES LABELS "e2e;plain-only")
  set(hostile_groups strangers records requests streams)
  if(DSM_SANITIZE STREQUAL "thread") # which leaves fewer addresses than the limits of requests are about
    list(REMOVE_ITEM hostile_groups requests)
  endif()
  foreach(group ${hostile_groups})
    add_hostile_test(${group} 300 hostile.sh ${group})
  endforeach()
  # With pauses in it, and nothing that a thread could race with which the others have not: once is enough.
  set_tests_properties(hostile.strangers PROPERTIES LABELS "e2e;plain-only")
  add_hostile_test(secrets 300 secrets.sh) # sanitizers keep copies of their own, and too much memory to search
  set_tests_properties(hostile.secrets PROPERTIES LABELS "e2e;plain-only")
  add_hostile_test(tenants 300 tenants.sh 2 0)
  add_hostile_test(memory 60 memory.sh) # as small as a group is, sanitizers have no room in it
  set_tests_properties(hostile.memory PROPERTIES LABELS "e2e;plain-only")
  if(DSM_SANITIZE STREQUAL "") # these are about time and memory
    add_executable(flood_connect ${hostile_folder}/flood_connect.c)
    add_hostile_test(floods 300 floods.sh short)
    set_tests_properties(hostile.floods PROPERTIES LABELS "e2e;plain-only")
    if(DSM_LONG_TESTS)
      add_hostile_test(floods_long 1200 floods.sh long)
      add_hostile_test(tenants_long 600 tenants.sh 60 1.5)
      add_hostile_test(patience 300 patience.sh)
      set_tests_properties(hostile.floods_long hostile.tenants_long hostile.patience PROPERTIES LABELS "long;plain-only" RUN_SERIAL TRUE)
    endif()
  endif()
endif()
