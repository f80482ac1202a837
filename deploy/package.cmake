# SPDX-License-Identifier: Apache-2.0
#
# cpack -G DEB in a build tree: libdsm-remote0, libdsm-remote-dev, dsm-server, dsm-tools.
#
# The name that Debian's rules make of the SONAME is libdsm0, and of the header package libdsm-dev. That is the series of
# names of another library (videolabs' libdsm: libdsm3, libdsm-dev): dpkg would take ours for theirs, an
# upgrade would replace one by the other. "libdsm-remote" is nobody's.
#
# A later revision of the same version: cpack -G DEB -D CPACK_DEBIAN_PACKAGE_RELEASE=2
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME dsm)
set(CPACK_PACKAGE_VENDOR "dsm")
set(CPACK_PACKAGE_CONTACT "dsm maintainers <root@localhost>")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_SET_DESTDIR ON) # for what lies in /etc
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/package_modes.cmake)
set(CPACK_COMPONENTS_ALL library dev server tools)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_LIBRARY_OUTPUT_DIRECTORY}) # libdsm.so.0, named by hand below
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS ON) # of the same version

set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libdsm-remote0)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SUGGESTS dsm-server)
set(CPACK_DEBIAN_LIBRARY_DESCRIPTION "memory of programs on a memory server (library)
Programs that link libdsm keep their large data on a memory server, dsmd, and a bounded part of them in
local memory. Not to be confused with libdsm3, a library for SMB.")

set(CPACK_DEBIAN_DEV_PACKAGE_NAME libdsm-remote-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_SHLIBDEPS OFF)
set(CPACK_COMPONENT_DEV_DEPENDS library)
set(CPACK_DEBIAN_DEV_DESCRIPTION "memory of programs on a memory server (development)
Header, pkg-config file (dsm) and CMake package (dsm::dsm). Can be installed beside libdsm-dev, which is
another library's. A program that names no server starts a dsmd of its own, which dsm-server holds.")
set(CPACK_DEBIAN_DEV_PACKAGE_SUGGESTS dsm-server)

set(CPACK_DEBIAN_SERVER_PACKAGE_NAME dsm-server)
set(CPACK_DEBIAN_SERVER_PACKAGE_SECTION net)
set(CPACK_DEBIAN_SERVER_PACKAGE_DEPENDS "adduser, init-system-helpers (>= 1.54~)")
set(CPACK_COMPONENT_SERVER_DEPENDS tools) # the first start makes a key
set(CPACK_DEBIAN_SERVER_DESCRIPTION "memory server for programs that link libdsm
dsmd keeps the pages of clients in a store, which a crash or an upgrade of dsmd leaves whole. It runs
as the user dsm, and lets nobody in until dsmctl authorize has.")
set(dsm_server_control ${CMAKE_SOURCE_DIR}/deploy/debian/server)
set(CPACK_DEBIAN_SERVER_PACKAGE_CONTROL_EXTRA ${dsm_server_control}/postinst ${dsm_server_control}/prerm
  ${dsm_server_control}/postrm ${dsm_server_control}/conffiles)

set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME dsm-tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION utils)
set(CPACK_COMPONENT_TOOLS_DEPENDS library)
set(CPACK_DEBIAN_TOOLS_DESCRIPTION "tools for memory servers and their clients
dsmctl makes keys, authorizes clients and looks after segments; dsmstat shows what clients and servers
do, dsm_exporter tells Prometheus of clients; dsmperf measures remote memory beside the limits of the machine.")
set(dsm_tools_control ${CMAKE_SOURCE_DIR}/deploy/debian/tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "init-system-helpers (>= 1.54~)")
set(CPACK_DEBIAN_TOOLS_PACKAGE_CONTROL_EXTRA ${dsm_tools_control}/postinst ${dsm_tools_control}/prerm
  ${dsm_tools_control}/postrm)

# What only the packages hold. EXCLUDE_FROM_ALL: cmake --install leaves /etc alone.
install(FILES deploy/dsmd.conf DESTINATION /etc/dsm COMPONENT server EXCLUDE_FROM_ALL)
install(PROGRAMS ${dsm_server_control}/init DESTINATION /etc/init.d RENAME dsmd COMPONENT server EXCLUDE_FROM_ALL)
install(FILES ${dsm_server_control}/README.Debian DESTINATION /usr/share/doc/dsm-server COMPONENT server EXCLUDE_FROM_ALL)
install(FILES ${dsm_server_control}/logrotate DESTINATION /etc/logrotate.d RENAME dsm-server COMPONENT server
  EXCLUDE_FROM_ALL)
foreach(component LIBRARY DEV SERVER TOOLS)
  string(TOLOWER ${component} lower)
  install(FILES deploy/debian/copyright COMPONENT ${lower} EXCLUDE_FROM_ALL
    DESTINATION /usr/share/doc/${CPACK_DEBIAN_${component}_PACKAGE_NAME})
endforeach()
include(CPack)
