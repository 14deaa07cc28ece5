{% macro _say_what_is_due(counts) %}
  {#- Not where a command runs dbt, which goes on with them. A mode that users set sends nothing here. -#}
  {%- if env_var('DBT_ENRICH_RUN_BEGAN', '') -%}
    {{ return('') }}
  {%- endif -%}
  {%- set due = namespace(rows=0) -%}
  {%- for row in counts if row[0] in ['pending', 'stale'] -%}
    {%- set due.rows = due.rows + row[1] -%}
  {%- endfor -%}
  {%- if due.rows -%}
    {%- set name = dbt_enrich._label(model) -%}
    {%- set given = invocation_args_dict.get('target') if invocation_args_dict is defined else none -%}
    {%- do log(
      name ~ ': ' ~ due.rows ~ (' row is' if due.rows == 1 else ' rows are') ~ ' pending; `dbt-enrich run --select '
      ~ name ~ (' --target ' ~ given if given else '') ~ '` sends and collects them',
      info=true
    ) -%}
  {%- endif -%}
{% endmacro %}
