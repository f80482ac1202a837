# SPDX-License-Identifier: Apache-2.0
# store: what the contract says, line by line; store_space: promises, slots and their reuse; store_open:
# refusals and damage; store_threads: readers against writers; store_crash: killed at every failpoint;
# store_clone: slots shared by segments, and the files of images.
if(TARGET store)
  foreach(test store store_space store_none store_open store_threads store_crash store_clone)
    add_unit_test(${test} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${test}.c
                  ${CMAKE_CURRENT_LIST_DIR}/store_rig.c LIBRARIES store Threads::Threads)
  endforeach()
endif()
