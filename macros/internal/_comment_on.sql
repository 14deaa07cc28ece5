{% macro _comment_on(relation, comment) %}
  {%- set described = config.persist_relation_docs() and model.description -%}
  {%- set text = model.description ~ '\n\n' ~ comment if described else comment -%}
  {% call statement('comment') -%}
    comment on table {{ relation }} is '{{ text | replace("'", "''") }}'
  {%- endcall %}
{% endmacro %}
