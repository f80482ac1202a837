# SPDX-License-Identifier: Apache-2.0
# Real programs on remote memory. Their parts that need no server are tested here; the programs themselves need a
# dsmd and are run by the tests that have one.
set(programs ${CMAKE_CURRENT_LIST_DIR})
add_unit_test(package_graph SOURCES ${programs}/test_package_graph.c ${programs}/package_graph.c
  ${programs}/package_index.c LIBRARIES m)
add_unit_test(gups_random SOURCES ${programs}/test_gups_random.c)
add_unit_test(perf_samples SOURCES ${programs}/test_perf_samples.c
  ${CMAKE_SOURCE_DIR}/tools/dsmperf_samples.c LIBRARIES m)

add_unit_test(bfs_check SOURCES ${programs}/test_bfs_check.c ${programs}/bfs_check.c ${programs}/kronecker.c)

if(TARGET dsm)
  add_executable(pagecheck ${programs}/pagecheck.c ${programs}/checked_page.c ${programs}/report.c)
  set(workload ${programs}/workload.c ${programs}/report.c)
  add_executable(pagerank ${programs}/pagerank.c ${programs}/pagerank_kronecker.c ${programs}/kronecker.c
    ${programs}/package_graph.c ${programs}/package_index.c ${programs}/package_source.c ${workload})
  add_executable(gups ${programs}/gups.c ${workload})
  add_executable(sort ${programs}/sort.c ${programs}/kronecker.c ${workload})
  add_executable(bfs ${programs}/bfs.c ${programs}/bfs_check.c ${programs}/kronecker.c ${workload})
  add_executable(stream ${programs}/stream.c ${workload})
  set(programs_made pagerank gups pagecheck bfs stream sort)
  # Neither OpenMP's runtime nor MPI is made for sanitizers.
  find_package(OpenMP COMPONENTS C)
  if(OpenMP_C_FOUND AND DSM_SANITIZE STREQUAL "")
    add_executable(stencil ${programs}/stencil.c ${programs}/jacobi.c ${workload})
    target_link_libraries(stencil PRIVATE OpenMP::OpenMP_C)
    list(APPEND programs_made stencil)
  endif()
  find_package(MPI COMPONENTS C)
  if(MPI_C_FOUND AND DSM_SANITIZE STREQUAL "")
    add_executable(stencil_mpi ${programs}/stencil_mpi.c ${programs}/jacobi.c ${workload})
    target_link_libraries(stencil_mpi PRIVATE MPI::MPI_C)
    list(APPEND programs_made stencil_mpi)
  endif()
  foreach(program ${programs_made})
    target_link_libraries(${program} PRIVATE dsm PkgConfig::JANSSON Threads::Threads m)
  endforeach()
  add_unit_test(checked_page SOURCES ${programs}/test_checked_page.c ${programs}/checked_page.c
    ${programs}/report.c LIBRARIES dsm PkgConfig::JANSSON)
endif()
