# SPDX-License-Identifier: Apache-2.0
# /metrics of dsmd and of dsm_exporter, as Prometheus and as strangers meet it.
if(NOT TARGET dsmd OR NOT TARGET dsm)
  return()
endif()
foreach(behaviour server exporter strangers)
  add_test(NAME e2e.metrics.${behaviour} COMMAND ${CMAKE_CURRENT_LIST_DIR}/metrics_${behaviour}.sh)
  set_tests_properties(e2e.metrics.${behaviour} PROPERTIES LABELS e2e TIMEOUT 300 SKIP_RETURN_CODE 77
    ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
endforeach()
# Of Prometheus' own doings, which no sanitizer sees.
add_test(NAME e2e.metrics.prometheus COMMAND ${CMAKE_CURRENT_LIST_DIR}/metrics_prometheus.sh)
set_tests_properties(e2e.metrics.prometheus PROPERTIES LABELS "e2e;plain-only" TIMEOUT 300 SKIP_RETURN_CODE 77
  ENVIRONMENT "DSM_BUILD=${CMAKE_BINARY_DIR}")
