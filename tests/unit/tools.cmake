# SPDX-License-Identifier: Apache-2.0
# The statistics page from both sides, and what tools share.
if(TARGET tool)
  add_unit_test(stat_page SOURCES ${CMAKE_CURRENT_LIST_DIR}/stat_page.c LIBRARIES dsm_core)
  add_unit_test(dsmstat_page SOURCES ${CMAKE_CURRENT_LIST_DIR}/dsmstat_page.c
                ${CMAKE_SOURCE_DIR}/tools/dsmstat_page.c ${CMAKE_SOURCE_DIR}/tools/dsmstat_text.c
                ${CMAKE_SOURCE_DIR}/tools/dsmstat_print.c LIBRARIES tool)
  add_unit_test(tool_text SOURCES ${CMAKE_CURRENT_LIST_DIR}/tool_text.c LIBRARIES tool)
endif()
