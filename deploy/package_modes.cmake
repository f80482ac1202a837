# SPDX-License-Identifier: Apache-2.0
#
# Run by cpack before it packs. Folders are made with the umask of whoever runs cpack, and dpkg would make them so: /etc/dsm
# with mode 0700 hides dsmd's configuration from dsmd. (CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS, too, is cut by
# the umask.)
file(GLOB_RECURSE paths LIST_DIRECTORIES true ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/*)
foreach(path ${paths})
  if(IS_DIRECTORY ${path} AND NOT IS_SYMLINK ${path})
    file(CHMOD ${path} PERMISSIONS
      OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
  endif()
endforeach()
