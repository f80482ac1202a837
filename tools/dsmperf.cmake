# SPDX-License-Identifier: Apache-2.0
if(TARGET dsm AND EXISTS ${CMAKE_SOURCE_DIR}/rpc/keyfile.c)
  file(GLOB dsmperf_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/dsmperf*.c)
  add_executable(dsmperf ${dsmperf_sources})
  target_link_libraries(dsmperf PRIVATE dsm rpc PkgConfig::JANSSON Threads::Threads m)
endif()
