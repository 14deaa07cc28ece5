{% macro _read_outcome(work) %}
  {% call statement('outcome', fetch_result=true) -%}
    select run_id, enriched_sql, errors_sql, summary, replaces, merges, comment from {{ work.outcome }}
  {%- endcall %}
  {%- set row = load_result('outcome').data[0] -%}
  {{ return({
    'run_id': row[0],
    'enriched_sql': row[1],
    'errors_sql': row[2],
    'summary': row[3],
    'replaces': row[4],
    'merges': row[5],
    'comment': row[6],
  }) }}
{% endmacro %}
