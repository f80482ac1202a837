# SPDX-License-Identifier: Apache-2.0
# What the library promises, against a running dsmd: one behaviour per test, over both kinds of lanes for faults unless LANES
# says otherwise. Programs are named by what they try; a test runs one of a program's roles.
if(NOT TARGET dsm)
  return()
endif()
set(hold_folder ${CMAKE_CURRENT_LIST_DIR})

function(add_hold_program name) # add_hold_program(name [LIBRARY...])
  add_executable(hold_${name} ${hold_folder}/hold_${name}.c ${hold_folder}/hold_rig.c)
  target_link_libraries(hold_${name} PRIVATE dsm Threads::Threads ${ARGN})
endfunction()

# add_hold_test(program role [SCRIPT script.sh] [LANES ...] [LABELS ...] [ENVIRONMENT ...] [OPTIONS dsmd's...])
function(add_hold_test program role)
  cmake_parse_arguments(hold "" "SCRIPT" "LANES;LABELS;ENVIRONMENT;OPTIONS" ${ARGN})
  if(NOT hold_LANES)
    set(hold_LANES sock grpc)
  endif()
  if(NOT hold_SCRIPT)
    set(hold_SCRIPT hold.sh)
  endif()
  foreach(lanes ${hold_LANES})
    set(test e2e.hold.${program}.${role}.${lanes})
    add_test(NAME ${test} COMMAND ${hold_folder}/${hold_SCRIPT} hold_${program} ${role} ${hold_OPTIONS})
    set_tests_properties(${test} PROPERTIES
      LABELS "e2e;${hold_LABELS}" TIMEOUT 200 SKIP_RETURN_CODE 77
      ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=${lanes};${hold_ENVIRONMENT}")
  endforeach()
endfunction()

add_hold_program(cache)
add_hold_test(cache bound LABELS plain-only)
add_hold_test(cache scan LABELS plain-only)
add_hold_test(cache random)

add_hold_program(lost)
foreach(store another emptied older)
  add_hold_test(lost ${store} SCRIPT hold_lost.sh)
endforeach()

add_hold_program(timeout)
foreach(role handled blocked blocked-handler ignored)
  add_hold_test(timeout ${role} SCRIPT hold_paused.sh ENVIRONMENT DSM_FAULT_TIMEOUT=1500)
endforeach()
# Sanitizers have a handler of SIGBUS.
add_hold_test(timeout default SCRIPT hold_paused.sh LABELS plain-only ENVIRONMENT DSM_FAULT_TIMEOUT=1500)

add_hold_program(closed)
add_hold_test(closed unanswered LANES sock SCRIPT hold_paused.sh)
add_hold_test(closed threads LANES sock)

add_hold_program(signals)
foreach(role interrupt leap)
  add_hold_test(signals ${role} SCRIPT hold_paused.sh)
endforeach()
add_hold_test(signals own-threads)
add_hold_test(signals leap-running)
if(NOT DSM_SANITIZE STREQUAL "thread") # which runs handlers with SIGSEGV blocked
  add_hold_test(signals touch SCRIPT hold_paused.sh)
  add_hold_test(signals touch-storm)
endif()

# These have a malloc of their own, which sanitizers have, too.
if(DSM_SANITIZE STREQUAL "")
  add_hold_program(heap)
  foreach(role loads stores handler exhausted)
    add_hold_test(heap ${role} LANES sock LABELS plain-only ENVIRONMENT DSM_FAULT_TIMEOUT=15000)
  endforeach()
  add_hold_program(allocations)
  add_hold_test(allocations count LABELS plain-only)
  foreach(program heap allocations)
    target_compile_options(hold_${program} PRIVATE -fno-builtin) # no pair of malloc and free is left out
  endforeach()
endif()

# The library's objects instead of the library: the linker puts the test's allocations in the place of theirs.
add_executable(hold_nth ${hold_folder}/hold_nth.c ${hold_folder}/hold_rig.c)
target_link_libraries(hold_nth PRIVATE dsm_core)
target_include_directories(hold_nth PRIVATE ${CMAKE_SOURCE_DIR}/libdsm/include)
foreach(symbol malloc calloc reallocarray mmap64)
  target_link_options(hold_nth PRIVATE -Wl,--wrap=${symbol})
endforeach()
if(NOT DSM_SANITIZE STREQUAL "thread") # whose mappings are its own
  add_hold_test(nth each)
endif()

add_hold_program(handlers)
foreach(role foreign read-only returning touching restored null sent sent-ignored read-only-default)
  add_hold_test(handlers ${role} LABELS plain-only) # sanitizers have a handler of SIGSEGV
endforeach()

add_hold_program(fork)
foreach(role calls touch exec outliving)
  add_hold_test(fork ${role} LABELS plain-only) # and they do not outlive the fork of a process with threads
endforeach()

add_hold_program(owners)
foreach(role writer readers takeover-clean takeover-touch paused)
  add_hold_test(owners ${role})
endforeach()

add_hold_program(room)
foreach(role space quota thin)
  add_hold_test(room ${role} SCRIPT hold_room.sh)
endforeach()

add_hold_program(disk)
foreach(case full-tmpfs full-disk write-errors sync-errors read-errors)
  add_hold_test(disk ${case} SCRIPT hold_disk.sh LANES sock LABELS plain-only)
endforeach()

add_hold_program(killed)
add_hold_test(killed clean SCRIPT hold_killed.sh LABELS plain-only OPTIONS
  write.begin:kill:1 write.room:kill:2 write.slot:kill:1 write.data:kill:2 write.entry:kill:300 write.version:kill:20
  write.highest:kill:1 write.free:kill:1)
add_hold_test(killed create SCRIPT hold_killed.sh OPTIONS
  create.id:kill:1 create.file:kill:1 create.record:kill:1 create.rename:kill:1)
add_hold_test(killed delete SCRIPT hold_killed.sh OPTIONS remove.begin:kill:1 remove.unlink:kill:1 remove.free:kill:1)
add_hold_test(killed swap-in SCRIPT hold_killed.sh)
add_hold_test(killed faults SCRIPT hold_killed.sh)

add_hold_program(errors)
add_hold_test(errors open SCRIPT hold_errors.sh)

add_hold_program(pages)
foreach(role 4-kib 64-kib 1-mib)
  add_hold_test(pages ${role} LABELS plain-only) # a sanitizer needs more than the smallest stack
endforeach()
foreach(role system-calls pressure too-many-pins age)
  add_hold_test(pages ${role})
endforeach()
add_hold_test(pages marks LANES sock)
add_hold_test(pages too-large LANES sock)

# Sanitizers have a handler of SIGSEGV, and lock what they like.
add_hold_program(kernel)
foreach(role blocked-sigsegv blocked-pinned mlockall-limit)
  add_hold_test(kernel ${role} LANES sock LABELS plain-only)
endforeach()
foreach(role mlockall mlockall-onfault)
  add_hold_test(kernel ${role} SCRIPT hold_memlock.sh LANES sock LABELS plain-only)
endforeach()

# The addresses of thread sanitizer's builds have no room for 1 TiB, and sanitizers take memory for what is mapped.
add_hold_program(size)
target_include_directories(hold_size PRIVATE ${CMAKE_SOURCE_DIR})
add_hold_test(size tebibyte SCRIPT hold_size.sh LABELS plain-only)
add_hold_test(size crowd SCRIPT hold_size.sh LANES sock LABELS plain-only ENVIRONMENT HOLD_CLIENTS=50)
if(TEST e2e.hold.size.crowd.sock) # the same with 1,000, as the limit is said
  add_test(NAME e2e.hold.size.thousand COMMAND ${hold_folder}/hold_size.sh hold_size crowd)
  set_tests_properties(e2e.hold.size.thousand PROPERTIES LABELS "e2e;long;plain-only" TIMEOUT 900 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR};DSM_FAULT_LANES=sock;HOLD_CLIENTS=1000;HOLD_SECONDS=800")
endif()
