# SPDX-License-Identifier: Apache-2.0
# What tools share: a connection to a dsmd, and how they write.
if(TARGET dsm_core)
  add_library(tool STATIC ${CMAKE_CURRENT_LIST_DIR}/tool_client.c
              ${CMAKE_CURRENT_LIST_DIR}/tool_server.c ${CMAKE_CURRENT_LIST_DIR}/tool_table.c ${CMAKE_CURRENT_LIST_DIR}/tool_text.c)
  target_link_libraries(tool PUBLIC dsm_core PkgConfig::JANSSON)
endif()
