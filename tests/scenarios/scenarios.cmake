# SPDX-License-Identifier: Apache-2.0
# The runner of scenarios, and every scenario as a test of its own (the other trees play them in one go, over TCP). It stands between the library and its lanes, so it links
# the same code as libdsm.so as an archive.
if(NOT TARGET dsm_core OR NOT TARGET dsmd)
  return()
endif()
set(scenarios ${CMAKE_CURRENT_LIST_DIR})
add_executable(vm_scenario ${scenarios}/vm_scenario.c ${scenarios}/scenario_file.c ${scenarios}/scenario_stage.c
  ${scenarios}/scenario_stores.c ${scenarios}/scenario_wire.c)
target_link_libraries(vm_scenario PRIVATE dsm_core)
target_link_options(vm_scenario PRIVATE
  -Wl,--wrap=backing_read_send,--wrap=backing_read_receive,--wrap=backing_write_send,--wrap=backing_write_receive,--wrap=backing_reserve)
file(GLOB scenario_files CONFIGURE_DEPENDS ${scenarios}/*.scenario)
foreach(file ${scenario_files})
  cmake_path(GET file STEM LAST_ONLY name)
  add_test(NAME vm.scenario.${name} COMMAND vm_scenario ${file})
  set_tests_properties(vm.scenario.${name} PROPERTIES LABELS "e2e;plain-only" TIMEOUT 60 RESOURCE_LOCK embedded)
endforeach()
add_executable(placement_refused ${scenarios}/placement_refused.c)
target_link_libraries(placement_refused PRIVATE dsm_core)
target_link_options(placement_refused PRIVATE -Wl,--wrap=control_create)
add_test(NAME vm.Placement.refused COMMAND placement_refused)
set_tests_properties(vm.Placement.refused PROPERTIES LABELS "e2e;plain-only" TIMEOUT 60 RESOURCE_LOCK embedded)
add_test(NAME vm.scenarios.tcp COMMAND ${scenarios}/tcp.sh ${scenario_files})
add_test(NAME vm.scenarios.wrong COMMAND ${scenarios}/wrong.sh)
set_tests_properties(vm.scenarios.tcp vm.scenarios.wrong PROPERTIES LABELS e2e TIMEOUT 120 SKIP_RETURN_CODE 77
  ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
