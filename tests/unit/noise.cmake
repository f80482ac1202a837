# SPDX-License-Identifier: Apache-2.0
# The Noise room: handshake, pattern rows, cipher states.
foreach(part noise noise_rows noise_cipher)
  add_unit_test(${part} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${part}.c LIBRARIES rpc Threads::Threads)
endforeach()
# Key files, and the tool that writes them.
foreach(part keyfile keyfile_grants)
  add_unit_test(${part} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${part}.c LIBRARIES rpc Threads::Threads)
endforeach()
add_test(NAME unit.dsmctl COMMAND bash ${CMAKE_CURRENT_LIST_DIR}/dsmctl.sh $<TARGET_FILE:dsmctl>)
set_tests_properties(unit.dsmctl PROPERTIES TIMEOUT 120)
