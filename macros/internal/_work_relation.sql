{% macro _work_relation(relation, kind) %}
  {#- As `ModelTables.of` of the Python package names it. -#}
  {{ return(relation.incorporate(
    path={'schema': relation.schema ~ '_enrichment', 'identifier': relation.identifier ~ '__' ~ kind},
    type='table',
  )) }}
{% endmacro %}
