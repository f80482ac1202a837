# SPDX-License-Identifier: Apache-2.0
# What a hostile or unlucky peer must not be able to do to the server. store_sparse: take memory by
# reading; more below, each named by what it guards.
if(TARGET store)
  add_unit_test(store_sparse SOURCES ${CMAKE_CURRENT_LIST_DIR}/store_sparse.c
                ${CMAKE_CURRENT_LIST_DIR}/store_rig.c LIBRARIES store Threads::Threads)
endif()
# hostile_catalog: sums after many cycles, sizes and index of NORESERVE segments.
if(TARGET server_core)
  add_unit_test(hostile_catalog SOURCES ${CMAKE_CURRENT_LIST_DIR}/hostile_catalog.c
                ${CMAKE_CURRENT_LIST_DIR}/catalog_rig.c ${CMAKE_CURRENT_LIST_DIR}/store_rig.c
                LIBRARIES server_core)
endif()
# hostile_service: keys that are taken away.
if(TARGET server_core)
  add_unit_test(hostile_service SOURCES ${CMAKE_CURRENT_LIST_DIR}/hostile_service.c ${CMAKE_CURRENT_LIST_DIR}/service_rig.c
                ${CMAKE_CURRENT_LIST_DIR}/catalog_rig.c ${CMAKE_CURRENT_LIST_DIR}/store_rig.c
                LIBRARIES server_core)
endif()
# hostile_log: a log that nobody reads.
if(TARGET server_core)
  add_unit_test(hostile_log SOURCES ${CMAKE_CURRENT_LIST_DIR}/hostile_log.c LIBRARIES server_core)
endif()
