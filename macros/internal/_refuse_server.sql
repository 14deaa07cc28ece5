{% macro _refuse_server() %}
  {#- There dbt-duckdb hands all calls to the server, and no plugin of ours could refuse it. While
      parsing, before dbt connects, the target is all that is known. -#}
  {%- if target.get('remote') and dbt_enrich._names_plugin() -%}
    {%- do exceptions.raise_compiler_error(
      "the target '" ~ target.name ~ "' is a Buena Vista server (remote in the profile), where "
      ~ "dbt-enrich cannot run; use a target that opens its database itself (path in the profile)"
    ) -%}
  {%- endif -%}
{% endmacro %}
