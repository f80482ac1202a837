# SPDX-License-Identifier: Apache-2.0
# Checks of the source itself. They are the same in every configuration, so they run in the plain one only.
function(add_check name) # add_check(name ARGUMENT...): runs name.sh with the arguments
  add_test(NAME check.${name} COMMAND ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/${name}.sh ${ARGN} COMMAND_EXPAND_LISTS)
  set_tests_properties(check.${name} PROPERTIES LABELS "check;plain-only" TIMEOUT 600)
endfunction()
foreach(check spdx words sizes arrows format shell)
  add_check(${check} ${CMAKE_SOURCE_DIR})
endforeach()
add_check(selftest)
add_test(NAME check.mutants COMMAND ${CMAKE_SOURCE_DIR}/tests/mutants/run --check)
set_tests_properties(check.mutants PROPERTIES LABELS "check;plain-only" TIMEOUT 120)
add_check(commands ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
add_check(rows ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
add_check(tidy ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR})
set_tests_properties(check.tidy PROPERTIES LABELS "check;plain-only;slow" TIMEOUT 1800 PROCESSORS 2 COST 1000) # first, or it would be last

# What pager_fault() can reach, made again with a section for each function so that the linker can tell.
file(GLOB handler_sources CONFIGURE_DEPENDS
  ${CMAKE_SOURCE_DIR}/libdsm/sync/*.c
  ${CMAKE_SOURCE_DIR}/libdsm/page/*.c ${CMAKE_SOURCE_DIR}/libdsm/policy/*.c
  ${CMAKE_SOURCE_DIR}/libdsm/pager/*.c ${CMAKE_SOURCE_DIR}/libdsm/trap/*.c
  ${CMAKE_SOURCE_DIR}/libdsm/stat/*.c ${CMAKE_SOURCE_DIR}/libdsm/backing/*.c
  ${CMAKE_SOURCE_DIR}/rpc/latency.c ${CMAKE_SOURCE_DIR}/rpc/spin.c ${CMAKE_SOURCE_DIR}/rpc/lane_sock*.c ${CMAKE_SOURCE_DIR}/rpc/lane_core*.c ${CMAKE_SOURCE_DIR}/rpc/record*.c ${CMAKE_SOURCE_DIR}/rpc/wire*.c
  ${CMAKE_SOURCE_DIR}/rpc/noise*.c)
list(FILTER handler_sources EXCLUDE REGEX "_front|_peer") # the server's end
if(DSM_SANITIZE STREQUAL "" AND NOT DSM_FUZZ AND handler_sources)
  add_library(handler_closure OBJECT ${handler_sources})
  target_compile_options(handler_closure PRIVATE -ffunction-sections -fdata-sections)
  target_link_libraries(handler_closure PRIVATE rpc_control PkgConfig::SODIUM)
  add_check(closure $<TARGET_OBJECTS:handler_closure>)
endif()

# The tests of the other configurations: tests/run writes this file (import_tests.cmake).
set(imported ${CMAKE_BINARY_DIR}/imported_tests.cmake)
if(NOT EXISTS ${imported})
  file(TOUCH ${imported})
endif()
set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${imported})
