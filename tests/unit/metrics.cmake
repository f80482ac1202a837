# SPDX-License-Identifier: Apache-2.0
add_unit_test(metrics_text SOURCES ${CMAKE_CURRENT_LIST_DIR}/metrics_text.c LIBRARIES metrics)
if(TARGET dsm_exporter)
  add_unit_test(exporter_groups
    SOURCES ${CMAKE_CURRENT_LIST_DIR}/exporter_groups.c ${CMAKE_SOURCE_DIR}/tools/dsm_exporter_groups.c
            ${CMAKE_SOURCE_DIR}/tools/dsm_exporter_text.c ${CMAKE_SOURCE_DIR}/tools/dsmstat_page.c
    LIBRARIES metrics tool)
  target_compile_definitions(unit_exporter_groups PRIVATE DSM_VERSION="${PROJECT_VERSION}")
endif()
if(TARGET server_core)
  add_unit_test(tally SOURCES ${CMAKE_CURRENT_LIST_DIR}/tally.c LIBRARIES server_core)
endif()
