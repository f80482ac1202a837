# SPDX-License-Identifier: Apache-2.0
#
# cmake --install: what goes where. Components: library, dev, server, tools; deploy/package.cmake makes a Debian package
# of each. Nothing installed knows its prefix, so --prefix and a moved tree both work.
#
# Debian has another libdsm (videolabs, SMB; SONAME libdsm.so.3), whose libdsm-dev owns LIBDIR/libdsm.so,
# LIBDIR/pkgconfig/libdsm.pc and include/bdsm. Ours is libdsm.so.0, dsm.pc and include/dsm, and the linker's name for
# it lies in LIBDIR/dsm/, where dsm.pc points: both can be installed, and both be developed with, on one machine.

# Debian searches lib/TRIPLET below /usr/local too, so it is right for every prefix there. GNUInstallDirs would take it for
# /usr alone, and the packages could not be made of the tree that was tested.
if(NOT DEFINED CMAKE_INSTALL_LIBDIR AND EXISTS /etc/debian_version AND CMAKE_LIBRARY_ARCHITECTURE)
  set(CMAKE_INSTALL_LIBDIR lib/${CMAKE_LIBRARY_ARCHITECTURE} CACHE PATH "Object code libraries (relative to the prefix)")
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(dsm_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/dsm)
set(dsm_link_dir ${CMAKE_INSTALL_LIBDIR}/dsm)

# library, dev
set_target_properties(dsm PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
  "$<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/libdsm/include>;$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
install(TARGETS dsm EXPORT dsm
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library NAMELINK_SKIP)
install(DIRECTORY DESTINATION ${dsm_link_dir} COMPONENT dev)
install(CODE "
  set(link_dir \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${dsm_link_dir}\")
  file(CREATE_LINK ../$<TARGET_SONAME_FILE_NAME:dsm> \"\${link_dir}/libdsm.so\" SYMBOLIC)
  list(APPEND CMAKE_INSTALL_MANIFEST_FILES \"\${CMAKE_INSTALL_PREFIX}/${dsm_link_dir}/libdsm.so\")
  message(STATUS \"Installing: \${link_dir}/libdsm.so\")" COMPONENT dev)
install(FILES libdsm/include/dsm/dsm.h libdsm/include/dsm/counters.def
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dsm COMPONENT dev)

string(REGEX REPLACE "[^/]+" ".." dsm_pc_to_prefix ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
configure_file(deploy/dsm.pc.in ${CMAKE_BINARY_DIR}/install/dsm.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/install/dsm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)

install(EXPORT dsm NAMESPACE dsm:: FILE dsmTargets.cmake DESTINATION ${dsm_cmake_dir} COMPONENT dev)
configure_package_config_file(deploy/dsmConfig.cmake.in ${CMAKE_BINARY_DIR}/install/dsmConfig.cmake
  INSTALL_DESTINATION ${dsm_cmake_dir})
# As the SONAME: programs made with one version of it run with every other.
write_basic_package_version_file(${CMAKE_BINARY_DIR}/install/dsmConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_BINARY_DIR}/install/dsmConfig.cmake ${CMAKE_BINARY_DIR}/install/dsmConfigVersion.cmake
  DESTINATION ${dsm_cmake_dir} COMPONENT dev)

# server, tools
install(TARGETS dsmd RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR} COMPONENT server)
foreach(tool dsmctl dsmperf dsmstat dsm_exporter)
  if(TARGET ${tool})
    install(TARGETS ${tool} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
  endif()
endforeach()
install(FILES deploy/dsmd.conf DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT server)
install(FILES deploy/agent.conf DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT tools)
install(FILES deploy/client.conf DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT library)
install(FILES deploy/prometheus/prometheus.yml deploy/prometheus/dsm.rules.yml deploy/grafana/dsm.json
  DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT tools)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT library)

# Units name /usr/sbin/dsmd; installed elsewhere, they name that. Each goes with its program.
file(GLOB dsm_units CONFIGURE_DEPENDS deploy/systemd/*.service)
foreach(unit ${dsm_units})
  cmake_path(GET unit FILENAME name)
  set(component tools)
  if(name STREQUAL dsmd.service)
    set(component server)
  endif()
  install(FILES ${unit} DESTINATION lib/systemd/system COMPONENT ${component})
  install(CODE "
    set(unit \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/${name}\")
    file(READ \"\${unit}\" text)
    string(REPLACE /usr/sbin/ \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}/\" text \"\${text}\")
    string(REPLACE /usr/bin/ \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/\" text \"\${text}\")
    file(WRITE \"\${unit}\" \"\${text}\")" COMPONENT ${component})
endforeach()

# Manual pages, where the build left any.
include(${CMAKE_CURRENT_LIST_DIR}/manuals.cmake)
function(dsm_install_pages component) # SECTION...
  foreach(section ${ARGN})
    install(CODE "
      file(GLOB pages \"${CMAKE_BINARY_DIR}/man/*.${section}\" \"${CMAKE_BINARY_DIR}/man/*/*.${section}\")
      if(pages)
        file(INSTALL \${pages} DESTINATION \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_MANDIR}/man${section}\")
      endif()" COMPONENT ${component})
  endforeach()
endfunction()
dsm_install_pages(dev 3 7)
dsm_install_pages(server 5 8)
dsm_install_pages(tools 1)

include(${CMAKE_CURRENT_LIST_DIR}/package.cmake)
