{% macro _errors_relation(relation) %}
  {{ return(relation.incorporate(path={'identifier': relation.identifier ~ '__errors'})) }}
{% endmacro %}
