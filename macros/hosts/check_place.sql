{% macro check_place(relation) %}
  {{ return(adapter.dispatch('check_place', 'dbt_enrich')(relation)) }}
{% endmacro %}

{% macro default__check_place(relation) %}
{% endmacro %}

{% macro duckdb__check_place(relation) %}
  {%- set type = dbt_enrich._other_catalog(relation) -%}
  {%- if type -%}
    {%- do exceptions.raise_compiler_error(
      "model '" ~ model.name ~ "': its database '" ~ relation.database ~ "' is of the type " ~ type
      ~ ", to which enriched tables are published by the plugin alone; add the plugin dbt_enrich.plugin to the "
      ~ "target in profiles.yml, or let the model go to a DuckDB file"
    ) -%}
  {%- endif -%}
{% endmacro %}
