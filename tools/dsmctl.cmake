# SPDX-License-Identifier: Apache-2.0
# A new subject of commands is a file dsmctl_SUBJECT.c; it is found here.
file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/dsmctl*.c ${CMAKE_CURRENT_LIST_DIR}/mover*.c)
add_executable(dsmctl ${sources})
target_compile_definitions(dsmctl PRIVATE DSM_VERSION="${PROJECT_VERSION}")
target_link_libraries(dsmctl PRIVATE tool server_config server_ready store rpc)
