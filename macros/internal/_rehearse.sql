{% macro _rehearse(relation, empty_sql) %}
  {% call statement('rehearsal') -%}
    {{ dbt_enrich._create_table_as(relation, empty_sql) }}
  {%- endcall %}
  {% do create_indexes(relation) %}
  {{ drop_relation_if_exists(relation) }}
  {{ adapter.commit() }}
{% endmacro %}
