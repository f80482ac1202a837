# SPDX-License-Identifier: Apache-2.0
#
# cmake -DTREE=build-asan -DNAME=asan -DOUTPUT=FILE [-DMATCH=REGEX] [-DEXCEPT=REGEX] [-DPLAIN_ONLY=ON|ALONE] [-DLAUNCHER=..]
#       [-DENVIRONMENT=..] -P import_tests.cmake
#
# Appends to OUTPUT, a file that ctest in the plain build directory includes, an entry NAME/TEST for each test of
# another build directory. So one ctest run covers every configuration, runs their tests side by side, shows
# each one that is skipped, and ends with one summary. A ctest inside a ctest would hide all that.
#
# Tests labelled plain-only stay out, unless PLAIN_ONLY, and are all that come in with ALONE; with MATCH, only tests
# whose name it matches come in, with EXCEPT, only others.
cmake_minimum_required(VERSION 3.25)

execute_process(COMMAND ${CMAKE_CTEST_COMMAND} --show-only=json-v1 WORKING_DIRECTORY ${TREE}
                OUTPUT_VARIABLE json COMMAND_ERROR_IS_FATAL ANY)

function(json_list result json)
  string(JSON length LENGTH "${json}")
  set(items)
  if(length GREATER 0)
    math(EXPR last "${length} - 1")
    foreach(i RANGE ${last})
      string(JSON item GET "${json}" ${i})
      string(REPLACE ";" "\\;" item "${item}")
      list(APPEND items "${item}")
    endforeach()
  endif()
  set(${result} "${items}" PARENT_SCOPE)
endfunction()

set(text "")
set(imported 0)
set(refers FIXTURES_CLEANUP FIXTURES_REQUIRED FIXTURES_SETUP DEPENDS) # values that name other tests

string(JSON count LENGTH "${json}" tests)
if(count EQUAL 0)
  message(FATAL_ERROR "${TREE} has no tests: is it built?")
endif()
math(EXPR last "${count} - 1")
foreach(i RANGE ${last})
  string(JSON test GET "${json}" tests ${i}) # each call reads its whole text
  string(JSON name GET "${test}" name)
  if((MATCH AND NOT name MATCHES "${MATCH}") OR (EXCEPT AND name MATCHES "${EXCEPT}"))
    continue()
  endif()
  string(JSON command ERROR_VARIABLE unbuilt GET "${test}" command)
  if(unbuilt)
    message(FATAL_ERROR "${TREE}: the program of test ${name} was not built.")
  endif()
  json_list(arguments "${command}")
  set(quoted "")
  foreach(argument IN LISTS LAUNCHER arguments)
    string(APPEND quoted " [==[${argument}]==]")
  endforeach()

  set(labels)
  set(environment ${ENVIRONMENT})
  set(properties "")
  string(JSON property_count LENGTH "${test}" properties)
  math(EXPR property_last "${property_count} - 1")
  foreach(p RANGE ${property_last})
    string(JSON key GET "${test}" properties ${p} name)
    string(JSON type TYPE "${test}" properties ${p} value)
    string(JSON value GET "${test}" properties ${p} value)
    if(type STREQUAL "ARRAY")
      json_list(value "${value}")
    endif()
    if(key IN_LIST refers)
      list(TRANSFORM value PREPEND "${NAME}/")
    endif()
    if(key STREQUAL "LABELS")
      set(labels ${value})
    elseif(key STREQUAL "ENVIRONMENT")
      list(APPEND environment ${value})
    else()
      string(APPEND properties " ${key} [==[${value}]==]")
    endif()
  endforeach()
  if((NOT PLAIN_ONLY AND "plain-only" IN_LIST labels) OR
     (PLAIN_ONLY STREQUAL "ALONE" AND NOT "plain-only" IN_LIST labels))
    continue()
  endif()
  string(APPEND text "add_test([==[${NAME}/${name}]==]${quoted})\n")
  string(APPEND text "set_tests_properties([==[${NAME}/${name}]==] PROPERTIES"
                     " LABELS [==[${labels};${NAME}]==] ENVIRONMENT [==[${environment}]==]${properties})\n")
  math(EXPR imported "${imported} + 1")
endforeach()
if(imported EQUAL 0)
  message(FATAL_ERROR "${TREE}: none of its ${count} tests is to be run: what was it built for?")
endif()
file(APPEND ${OUTPUT} "${text}")
message(STATUS "${NAME}: ${imported} of ${count} tests")
