# SPDX-License-Identifier: Apache-2.0
# Configuration files, and the size of the cache by what is free.
add_unit_test(setting_file SOURCES ${CMAKE_CURRENT_LIST_DIR}/setting_file.c LIBRARIES rpc)
if(TARGET dsm_core)
  add_unit_test(cache_size SOURCES ${CMAKE_CURRENT_LIST_DIR}/cache_size.c LIBRARIES dsm_core)
endif()
if(TARGET server_config)
  add_unit_test(config_file SOURCES ${CMAKE_CURRENT_LIST_DIR}/config_file.c LIBRARIES server_config)
endif()
# What dsmd may ask of the kernel once it serves.
if(TARGET server_core)
  add_unit_test(sandbox SOURCES ${CMAKE_CURRENT_LIST_DIR}/sandbox.c LIBRARIES server_core)
endif()
