# SPDX-License-Identifier: Apache-2.0
# Real programs on remote memory. Their parts that need no server are tested here; the programs themselves need a
# dsmd and are run by the tests that have one.
set(programs ${CMAKE_CURRENT_LIST_DIR})
add_unit_test(package_graph SOURCES ${programs}/test_package_graph.c ${programs}/package_graph.c
  ${programs}/package_index.c LIBRARIES m)
add_unit_test(gups_random SOURCES ${programs}/test_gups_random.c)
add_unit_test(perf_samples SOURCES ${programs}/test_perf_samples.c
  ${CMAKE_SOURCE_DIR}/tools/dsmperf_samples.c LIBRARIES m)

if(TARGET dsm)
  add_executable(pagerank ${programs}/pagerank.c ${programs}/package_graph.c
    ${programs}/package_index.c ${programs}/package_source.c ${programs}/report.c)
  add_executable(gups ${programs}/gups.c ${programs}/report.c)
  add_executable(pagecheck ${programs}/pagecheck.c ${programs}/checked_page.c ${programs}/report.c)
  foreach(program pagerank gups pagecheck)
    target_link_libraries(${program} PRIVATE dsm PkgConfig::JANSSON Threads::Threads)
  endforeach()
  add_unit_test(checked_page SOURCES ${programs}/test_checked_page.c ${programs}/checked_page.c
    ${programs}/report.c LIBRARIES dsm PkgConfig::JANSSON)
endif()
