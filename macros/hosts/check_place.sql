{% macro check_place(relation) %}
  {{ return(adapter.dispatch('check_place', 'dbt_enrich')(relation)) }}
{% endmacro %}

{% macro default__check_place(relation) %}
{% endmacro %}

{% macro duckdb__check_place(relation) %}
  {#- Of what DuckDB attaches, the command works in its own files alone. -#}
  {%- set query -%}
    select type from duckdb_databases()
    where lower(database_name) = lower('{{ relation.database | replace("'", "''") }}')
      and type not in ('duckdb', 'motherduck')
  {%- endset -%}
  {%- for row in run_query(query).rows -%}
    {%- do exceptions.raise_compiler_error(
      "model '" ~ model.name ~ "': its database '" ~ relation.database ~ "' is of the type " ~ row[0]
      ~ ", to which enriched tables are published by the plugin alone; add the plugin dbt_enrich.plugin to the "
      ~ "target in profiles.yml, or let the model go to a DuckDB file"
    ) -%}
  {%- endfor -%}
{% endmacro %}
