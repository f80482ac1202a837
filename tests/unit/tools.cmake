# SPDX-License-Identifier: Apache-2.0
# The statistics page from both sides, and what tools share.
if(TARGET tool)
  add_unit_test(stat_page SOURCES ${CMAKE_CURRENT_LIST_DIR}/stat_page.c LIBRARIES dsm_core)
  add_unit_test(dsmstat_page SOURCES ${CMAKE_CURRENT_LIST_DIR}/dsmstat_page.c
                ${CMAKE_SOURCE_DIR}/tools/dsmstat_page.c ${CMAKE_SOURCE_DIR}/tools/dsmstat_text.c
                ${CMAKE_SOURCE_DIR}/tools/dsmstat_print.c LIBRARIES tool)
  add_unit_test(tool_text SOURCES ${CMAKE_CURRENT_LIST_DIR}/tool_text.c LIBRARIES tool)
  add_unit_test(mover_socket SOURCES ${CMAKE_CURRENT_LIST_DIR}/mover_socket.c ${CMAKE_SOURCE_DIR}/tools/mover_socket.c LIBRARIES rpc)
  add_unit_test(mover_program SOURCES ${CMAKE_CURRENT_LIST_DIR}/mover_program.c ${CMAKE_SOURCE_DIR}/tools/mover_program.c
                ${CMAKE_SOURCE_DIR}/tools/mover_socket.c LIBRARIES tool)
  set(agent_parts dsmctl_agent_move.c dsmctl_agent_binaries.c dsmctl_agent_start.c mover_link.c mover_socket.c)
  list(TRANSFORM agent_parts PREPEND ${CMAKE_SOURCE_DIR}/tools/)
  add_unit_test(agent_move SOURCES ${CMAKE_CURRENT_LIST_DIR}/agent_move.c ${agent_parts} LIBRARIES tool)
  target_link_options(unit_agent_move PRIVATE -Wl,--build-id)
  if(DSM_LONG_TESTS)
    add_test(NAME unit.agent_move.deaf COMMAND unit_agent_move deaf)
    set_tests_properties(unit.agent_move.deaf PROPERTIES LABELS long TIMEOUT 200)
  endif()
endif()
