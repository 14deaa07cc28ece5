{% macro _rehearse(relation, empty) %}
  {%- set errors = dbt_enrich._errors_relation(relation) -%}

  -- `BEGIN` happens here:
  {% call statement('rehearsal') -%}
    {{ dbt_enrich._create_table_as(relation, empty.enriched_sql) }}
  {%- endcall %}
  {% do create_indexes(relation) %}
  {% call statement('errors_rehearsal') -%}
    create or replace table {{ errors }} as (
      {{ empty.errors_sql }}
    )
  {%- endcall %}
  {{ drop_relation_if_exists(errors) }}
  {{ drop_relation_if_exists(relation) }}

  -- `COMMIT` happens here
  {{ adapter.commit() }}
{% endmacro %}
