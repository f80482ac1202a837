# SPDX-License-Identifier: Apache-2.0
add_unit_test(metrics_text SOURCES ${CMAKE_CURRENT_LIST_DIR}/metrics_text.c LIBRARIES metrics)
