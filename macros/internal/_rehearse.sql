{% macro _rehearse(relation, empty, target, existing) %}
  {%- set errors = dbt_enrich._errors_relation(relation) -%}
  {%- set shapes = none -%}

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
  {% if empty.compares %}
    {%- set shapes = {
      'existing': dbt_enrich._shape(existing),
      'made': dbt_enrich._shape(relation),
      'existing_errors': dbt_enrich._shape(dbt_enrich._errors_relation(target)),
      'made_errors': dbt_enrich._shape(errors),
      'described': model.columns | list if config.persist_column_docs() else [],
    } -%}
  {% endif %}
  {{ drop_relation_if_exists(errors) }}
  {{ drop_relation_if_exists(relation) }}

  -- `COMMIT` happens here
  {{ adapter.commit() }}
  {{ return(shapes) }}
{% endmacro %}
