# SPDX-License-Identifier: Apache-2.0
# What a hostile or unlucky peer must not be able to do to the server. store_sparse: take memory by
# reading; more below, each named by what it guards.
if(TARGET store)
  add_unit_test(store_sparse SOURCES ${CMAKE_CURRENT_LIST_DIR}/store_sparse.c
                ${CMAKE_CURRENT_LIST_DIR}/store_rig.c LIBRARIES store Threads::Threads)
endif()
