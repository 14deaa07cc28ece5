{% macro _work_relations(target) %}
  {%- set schema = api.Relation.create(database=target.database, schema='enrichment_work') -%}
  {#- The hash keeps a__b.c and a.b__c apart. -#}
  {%- set hash = local_md5(target.schema ~ '\n' ~ target.identifier)[:8] -%}
  {%- set name = target.schema ~ '__' ~ target.identifier ~ '__' ~ hash -%}
  {{ return({
    'schema': schema.without_identifier(),
    'staged': schema.incorporate(path={'identifier': name ~ '__staged'}),
    'outcome': schema.incorporate(path={'identifier': name ~ '__outcome'}),
  }) }}
{% endmacro %}
