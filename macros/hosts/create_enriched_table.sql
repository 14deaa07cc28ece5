{% macro create_enriched_table(relation, sql) %}
  {{ return(adapter.dispatch('create_enriched_table', 'dbt_enrich')(relation, sql)) }}
{% endmacro %}

{% macro default__create_enriched_table(relation, sql) %}
  {% if config.get('contract').enforced %}
    {{ return(dbt_enrich._create_contracted_table(relation, sql)) }}
  {% endif %}
  {% call statement('main') -%}
    {%- if config.get('sql_header') -%}
      {#- The header ran when the rows were staged; it may be no statement that can run twice. -#}
      create table {{ relation }} as (
        {{ sql }}
      )
    {%- else -%}
      {{ create_table_as(False, relation, sql) }}
    {%- endif -%}
  {%- endcall %}
{% endmacro %}

{% macro duckdb__create_enriched_table(relation, sql) %}
  {% if config.get('contract').enforced %}
    {{ return(dbt_enrich._create_contracted_table(relation, sql)) }}
  {% endif %}
  {% call statement('main') -%}
    {{ dbt_enrich._create_table_as(relation, sql) }}
  {%- endcall %}
{% endmacro %}
