# SPDX-License-Identifier: Apache-2.0
# Replacement policies on page traces: policy_sim, and the programs that record traces of real programs.
set(sim ${CMAKE_CURRENT_LIST_DIR})
if(TARGET dsm_core)
  add_executable(policy_sim ${sim}/policy_sim.c ${sim}/policies.c ${sim}/trace.c)
  target_link_libraries(policy_sim PRIVATE dsm_core m)
  foreach(program pagerank gups bfs)
    get_target_property(sources ${program} SOURCES)
    add_executable(record_${program} ${sources} ${sim}/record.c)
    target_link_libraries(record_${program} PRIVATE dsm_core PkgConfig::JANSSON Threads::Threads)
    target_link_options(record_${program} PRIVATE -Wl,--wrap=pager_fault)
  endforeach()
  if(DSM_SANITIZE STREQUAL "") # the traps of a sanitizer's handlers would be noted, too
    add_test(NAME vm.Policy.table COMMAND ${sim}/policy.sh)
    set_tests_properties(vm.Policy.table PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77
      ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
  endif()
endif()
