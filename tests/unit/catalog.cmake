# SPDX-License-Identifier: Apache-2.0
# catalog: segments, quotas, addresses, checks; catalog_owners: who may open what, epochs, leases, restarts;
# catalog_ephemeral: segments that go with those who have them open; catalog_principals: sums of all; catalog_clones: clones, templates
# and code; catalog_images: the hand-over of process images; catalog_images_killed: the server dies at every step of it; catalog_limits: what only a crowd reaches.
if(TARGET server_core)
  foreach(test catalog catalog_owners catalog_ephemeral catalog_principals catalog_clones)
    add_unit_test(${test} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${test}.c
                  ${CMAKE_CURRENT_LIST_DIR}/catalog_rig.c ${CMAKE_CURRENT_LIST_DIR}/store_rig.c
                  LIBRARIES server_core)
  endforeach()
  foreach(test catalog_images catalog_images_killed catalog_limits)
    add_unit_test(${test} SOURCES ${CMAKE_CURRENT_LIST_DIR}/${test}.c ${CMAKE_CURRENT_LIST_DIR}/image_rig.c
                  ${CMAKE_CURRENT_LIST_DIR}/catalog_rig.c ${CMAKE_CURRENT_LIST_DIR}/store_rig.c
                  LIBRARIES server_core)
  endforeach()
endif()
