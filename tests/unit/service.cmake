# SPDX-License-Identifier: Apache-2.0
# service: lanes, generations, pages and control messages, with the test in the place of the fronts.
if(TARGET server_core)
  add_unit_test(service SOURCES ${CMAKE_CURRENT_LIST_DIR}/service.c ${CMAKE_CURRENT_LIST_DIR}/service_rig.c
                ${CMAKE_CURRENT_LIST_DIR}/catalog_rig.c ${CMAKE_CURRENT_LIST_DIR}/store_rig.c
                LIBRARIES server_core)
endif()
# The n-th allocation of a server fails.
if(TARGET server_core)
  add_unit_test(service_allocations SOURCES ${CMAKE_CURRENT_LIST_DIR}/service_allocations.c
                ${CMAKE_CURRENT_LIST_DIR}/service_rig.c ${CMAKE_CURRENT_LIST_DIR}/store_rig.c LIBRARIES server_core)
  target_link_options(unit_service_allocations PRIVATE -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc)
endif()
# config: dsmd's settings, and the listener's count of failed handshakes.
if(TARGET server_core)
  add_unit_test(config SOURCES ${CMAKE_CURRENT_LIST_DIR}/config.c LIBRARIES server_core)
endif()
