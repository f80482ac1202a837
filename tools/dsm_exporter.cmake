# SPDX-License-Identifier: Apache-2.0
# It finds and reads statistics pages by dsmstat's own code.
if(TARGET dsm_core)
  file(GLOB exporter_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/dsm_exporter*.c)
  add_executable(dsm_exporter ${exporter_sources} ${CMAKE_CURRENT_LIST_DIR}/dsmstat_clients.c
                 ${CMAKE_CURRENT_LIST_DIR}/dsmstat_page.c)
  target_compile_definitions(dsm_exporter PRIVATE DSM_VERSION="${PROJECT_VERSION}")
  target_link_libraries(dsm_exporter PRIVATE tool metrics server_ready)
endif()
